"""Pictures in and out, by Pillow and without torch: opened and resized, encoded."""
