"""Tests of normalizers: one file per kind of value, and properties that hold for all of them."""
