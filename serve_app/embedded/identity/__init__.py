"""Trains and evaluates the embedded identity model, which tells whether two objects are the same individual."""
