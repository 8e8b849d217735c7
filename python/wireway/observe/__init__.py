"""What a running server shows of itself: stalls of its loop."""
