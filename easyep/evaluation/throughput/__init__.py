"""How fast a model answers: prefill and decode apart, one model beside another."""
