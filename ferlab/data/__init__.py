"""What a set of faces is: readers, identity, audit, balance, augmentation. Knows nothing of
networks.

`dataset.Dataset` is what all modules take and give. `readers` brings it in from files and
addresses, `identity` recognises the official images in any copy, `sample` draws one without a
download.
"""
