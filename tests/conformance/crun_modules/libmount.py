"""The two calls of libmount's Python module that the suite makes, where no package of it exists."""


class _Entry:
    def __init__(self, line):
        before, _, after = line.partition(" - ")
        fields, last = before.split(), after.split()
        self.target, self.vfs_options = fields[4], fields[5]
        self.fstype, self.source, self.fs_options = last[0], last[1], last[2]


class Table:
    def __init__(self, path):
        with open(path) as file:
            self._entries = [_Entry(line) for line in file if " - " in line]

    def find_target(self, target):
        found = [entry for entry in self._entries if entry.target == target]
        return found[-1] if found else None
