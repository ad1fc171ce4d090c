"""What makes and evaluates the embedded identity model: it tells whether two objects are the same one."""
