"""The few figure shapes: arrays and frames in, plotly figures out. A file holds one family of them."""
