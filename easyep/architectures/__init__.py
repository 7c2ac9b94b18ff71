"""What easyep knows about model families: a small TOML file each, and the code to read them."""
