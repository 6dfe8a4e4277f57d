"""What is measured, and how: `python -m bench` measures everything side by side; README.md says what came of it."""
