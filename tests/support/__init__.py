"""What the tests share: a stand-in model server, the real server as a process, and a tab as a plain socket."""
