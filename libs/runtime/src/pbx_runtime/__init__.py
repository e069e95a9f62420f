"""What every service process needs before it knows its job. No telephony word appears here."""
