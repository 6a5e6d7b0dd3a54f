"""Which systems there are, and what each is made of; nothing here needs torch."""
