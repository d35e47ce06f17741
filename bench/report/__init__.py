"""From results of bench cluster to a page, pictures and a document; and the command that runs what is published."""
