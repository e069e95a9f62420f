"""The media relay: slots of ports and the datapaths between them. It never parses SDP."""
