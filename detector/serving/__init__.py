"""A trained model as a web page and an API, on one machine: requests in, batches through the network, answers out."""
