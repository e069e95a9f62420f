"""The operator: owns the relay pods of a cluster.

It places relays on nodes, gives each a block of ports that no other relay on that node holds, drains before it
deletes, and keeps nothing in memory that the custom resources do not say. It never touches a call.
"""
