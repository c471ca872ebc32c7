"""What clients ask of a broker: by gRPC, by REST, on one port."""
