// Makes a FileTable out of a tar's entries.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

#include "index/file_table.h"
#include "tar/entry.h"
#include "tar/stream_reader.h"

namespace pagein::index {

// add() the entries of one tar in order, then finish() once. Memory: the table
// and one map element per directory. Thread-compatible.
//
// What becomes of an entry is what containerd makes of it:
//  - paths are normalised (path.h); parents that the tar does not name become
//    implied directories (0755, root, time 0). A path below something that is
//    no directory in this layer (a symlink, say) gets an implied directory of
//    that path; whether it leads anywhere is for the merge to find out;
//  - "." sets the attributes of the root, if it is a directory, and is ignored
//    otherwise (containerd ignores it always, Docker applies it);
//  - ".wh.NAME" is a whiteout and ".wh..wh..opq" an opaque mark, of whatever
//    type; other names that start with ".wh..wh." (aufs's own), and all below
//    them, are left out;
//  - a directory that occurs again, not replaced meanwhile, changes the
//    attributes of the first; every other repetition is a new entry;
//  - a device 0:0 stays a device;
//  - mode, owner, time and xattrs of a hard link are kept: they change the
//    file that it is a link to;
//  - ids and device numbers are cut to what the kernel takes (32 bits; 12 and
//    20 bits; an id of -1, "leave it", is 0); times before 1970 or after 2262
//    become 0; xattrs "user.*" are dropped where Linux allows none (anything
//    but files and directories).
//
// Errors are corrupt_input: paths, whiteout names or link targets that no
// Linux file system takes; exhausted: beyond the caps of file_table.h.
class FileTableBuilder : public tar::EntrySink {
 public:
  FileTableBuilder();

  Status add(const tar::Entry& entry);
  Status on_entry(const tar::Entry& entry) override { return add(entry); }

  FileTable finish() { return std::move(table_); }

 private:
  // A directory, by its parent and its name.
  struct Key {
    EntryId parent;
    std::string name;
  };
  struct KeyView {
    EntryId parent;
    std::string_view name;
  };
  struct KeyHash {
    using is_transparent = void;
    size_t operator()(const KeyView& key) const noexcept;
    size_t operator()(const Key& key) const noexcept {
      return (*this)(KeyView{key.parent, key.name});
    }
  };
  struct KeyEqual {
    using is_transparent = void;
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const noexcept {
      return a.parent == b.parent && std::string_view(a.name) == std::string_view(b.name);
    }
  };

  Status add_at(const tar::Entry& source, std::string_view path);
  Status add_mark(EntryId parent, std::string_view name);
  Status add_directory(const tar::Entry& source, EntryId parent, std::string_view name);
  Status describe_directory(const tar::Entry& source, Entry& known);
  Status set_content(const tar::Entry& source, Entry& entry);
  Status set_target(const tar::Entry& source, Entry& entry);
  Status set_attributes(const tar::Entry& source, Entry& entry);
  Status set_xattrs(const tar::Entry& source, Entry& entry);
  Result<EntryId> append(Entry entry, std::string_view name);
  Result<EntryId> directory_at(std::string_view path);
  Result<EntryId> implied_directory(EntryId parent, std::string_view name);
  Status store(std::string_view text, uint32_t& offset, uint32_t& length);

  FileTable table_;
  std::unordered_map<Key, EntryId, KeyHash, KeyEqual> directories_;
  // Lists of xattrs that are there already: their bytes -> first of them.
  std::unordered_map<std::string, uint32_t> xattr_lists_;
  // The directory of the entry before; most entries follow a sibling.
  std::string last_directory_;
  EntryId last_directory_id_ = kRootEntry;
  uint64_t tar_end_ = 0;  // of the content so far
  std::string path_;      // scratch
  std::string target_;    // scratch
};

}  // namespace pagein::index
