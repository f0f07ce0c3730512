"""What joins the stages: whole pieces of work from a model file to a result."""
