"""The airports, as far as the system sees them: a source of months, and people who ask about flights. For trying the system out."""
