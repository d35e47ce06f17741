"""Real nodes under load while processes, links, disks and clocks fail; what clients saw is checked afterwards."""
