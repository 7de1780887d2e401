"""A trained network in use: photos, clips, a page, a server, exports, the model that ships."""
