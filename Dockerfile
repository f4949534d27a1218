# A server with the weights of your choice, on the CPU:
#   docker build -t faster-rcnn .
#   docker run -p 127.0.0.1:8000:8000 -v "$PWD/model_best.safetensors:/model.safetensors:ro" faster-rcnn
# On an NVIDIA GPU: build with --build-arg INDEX=https://download.pytorch.org/whl/cu126, and run with --gpus all.
# There is no password: let only those reach the port who may use it.
FROM python:3.12-slim
ARG INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /app
RUN pip install --no-cache-dir torch torchvision --index-url "$INDEX"
COPY pyproject.toml README.md LICENSE ./
COPY detector detector
COPY configs configs
RUN pip install --no-cache-dir ".[serve]" && useradd --create-home server
USER server
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=5)"]
# The server is process 1, so `docker stop` (SIGTERM) lets it finish what has begun.
ENTRYPOINT ["faster-rcnn", "serve", "--host", "0.0.0.0"]
CMD ["--weights", "/model.safetensors"]
