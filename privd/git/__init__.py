"""Root's own repositories, and the one way in which something of an agent's gets into them.

applied     one bare repository an agent, written by privd alone
intake      a commit of a proposed repository: read in a box, judged by policy, written here

Nothing here opens a repository that an agent can write.
"""
