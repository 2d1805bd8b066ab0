"""The library that the workflow's stage scripts share.  It imports no Snakemake."""
