"""The third process: sends webhooks, imports images from sources and fetches images from URLs."""
