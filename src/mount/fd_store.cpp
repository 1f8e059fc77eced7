#include "mount/fd_store.h"

#include <systemd/sd-daemon.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

namespace pagein::mount {
namespace {

Status send_message(const std::string& message, const int* fds, unsigned count,
                    const std::string& doing) {
  const int result = ::sd_pid_notify_with_fds(0, 0, message.c_str(), fds, count);
  if (result < 0) return errno_error(-result, doing);
  if (result == 0) {
    return Error(Code::unsupported,
                 doing +
                     ": no service manager listens (NOTIFY_SOCKET is not set); a restart "
                     "will end the mounts that need this process");
  }
  return {};
}

Status check_name(std::string_view name) {
  if (is_fd_name(name)) return {};
  return Error(Code::invalid_argument,
               "'" + std::string(name.substr(0, 300)) + "' cannot name a stored descriptor");
}

}  // namespace

bool is_fd_name(std::string_view name) {
  return !name.empty() && name.size() <= 255 && std::all_of(name.begin(), name.end(), [](char c) {
    return c >= ' ' && c < 127 && c != ':';
  });
}

bool FdStore::available() const {
  const char* socket = std::getenv("NOTIFY_SOCKET");
  return socket != nullptr && *socket != '\0';
}

Status FdStore::put(std::string_view name, int fd) const {
  RETURN_IF_ERROR(check_name(name));
  return send_message("FDSTORE=1\nFDPOLL=0\nFDNAME=" + std::string(name), &fd, 1,
                      "store descriptor '" + std::string(name) + "'");
}

Status FdStore::remove(std::string_view name) const {
  RETURN_IF_ERROR(check_name(name));
  return send_message("FDSTOREREMOVE=1\nFDNAME=" + std::string(name), nullptr, 0,
                      "remove stored descriptor '" + std::string(name) + "'");
}

Status FdStore::flush(unsigned timeout_ms) const {
  const int result = ::sd_notify_barrier(0, uint64_t{timeout_ms} * 1000);
  if (result < 0) return errno_error(-result, "wait for the service manager");
  if (result == 0) return Error(Code::unsupported, "no service manager listens");
  return {};
}

Result<std::vector<StoredFd>> take_stored_fds() {
  char** names = nullptr;
  const int count = ::sd_listen_fds_with_names(1, &names);
  if (count < 0) return errno_error(-count, "take the service manager's descriptors");
  std::vector<StoredFd> fds;
  for (int i = 0; i < count; ++i) {
    fds.push_back({names != nullptr && names[i] != nullptr ? names[i] : "",
                   UniqueFd(SD_LISTEN_FDS_START + i)});
    if (names != nullptr) std::free(names[i]);
  }
  std::free(names);
  return fds;
}

}  // namespace pagein::mount
