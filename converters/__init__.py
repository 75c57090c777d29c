"""Scripts that turn other people's weights into ours; nobody imports them."""
