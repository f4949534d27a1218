"""The fast execution of the network's parameters. `detector.model.fuse` puts it together."""
