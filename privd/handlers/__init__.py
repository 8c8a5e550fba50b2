"""What is done for each request of privd; who may ask stands in privd.routes."""
