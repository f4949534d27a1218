"""The fast execution of the network's parameters. `detector.fast.fuse` puts it together."""
