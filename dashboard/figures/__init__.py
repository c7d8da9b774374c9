"""Pure functions from answers and traces to plotly figures."""
