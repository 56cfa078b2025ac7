"""What the programs of a host print → data. Pure: text in, frozen data out, one module per subject."""
