"""The third process: sends webhooks and imports images from sources."""
