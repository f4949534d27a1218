"""Pictures and annotations: from files on disk to padded batches."""
