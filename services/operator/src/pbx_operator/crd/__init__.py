"""The custom resources, one kind per file: pydantic models are the source, the CRD YAML is generated from them."""
