"""kopf's side: watches that wake the reconciler. No decisions here."""
