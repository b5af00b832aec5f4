"""A report as one HTML file that needs no network: pages made of parts, drawn with the libraries of the extra `html`."""
