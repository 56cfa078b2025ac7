"""Asking registries, model hubs and git servers what a name stands for now. Nothing is changed there."""
