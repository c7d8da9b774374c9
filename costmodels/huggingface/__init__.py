"""Descriptions of models from the `config.json` files of the Hugging Face hub."""
