"""What the library is held against: exactly solved cases, closed forms, digits of other programs, a second solver."""
