"""What a message is: address, reply, envelope, header block, identity, trace. Pure: bytes in, values out."""
