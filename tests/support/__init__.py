"""What the tests share: real servers to test against."""
