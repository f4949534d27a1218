"""The counts of a server, in Prometheus' form."""

from detector.serving.counts import Counts


def test_the_text_by_hand() -> None:
    counts = Counts()
    counts.add_request(200, 0.03)
    counts.add_request(200, 3.0)
    counts.add_request(503, 0.001)
    counts.add_batch(4, 0.2)
    lines = counts.text({"detector_open_requests": ("Now.", 2.0)}).splitlines()
    assert 'detector_requests_total{code="200"} 2' in lines
    assert 'detector_requests_total{code="503"} 1' in lines
    assert "detector_open_requests 2" in lines
    assert 'detector_request_seconds_bucket{le="0.01"} 1' in lines
    assert 'detector_request_seconds_bucket{le="0.05"} 2' in lines
    assert 'detector_request_seconds_bucket{le="5"} 3' in lines
    assert 'detector_request_seconds_bucket{le="+Inf"} 3' in lines
    assert "detector_request_seconds_sum 3.031000" in lines
    assert 'detector_batch_pictures_bucket{le="2"} 0' in lines
    assert 'detector_batch_pictures_bucket{le="4"} 1' in lines
