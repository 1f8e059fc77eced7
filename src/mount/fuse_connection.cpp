#include "mount/fuse_connection.h"

#include <fcntl.h>
#include <linux/stat.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "mount/fs_context.h"
#include "mount/fuse_poller.h"
#include "mount/fuse_session.h"

namespace pagein::mount {
namespace {

Status set_nonblocking(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    return errno_error(errno, "make a FUSE descriptor non-blocking");
  }
  return {};
}

Status check_files(const FuseConnectionOptions& options) {
  for (const auto& file : options.files) {
    if (file == nullptr || file->size() % 4096 != 0) {
      return Error(Code::invalid_argument, "FUSE connection '" + options.name +
                                               "': a file's size is not a multiple of 4096");
    }
  }
  return {};
}

using Users = FuseConnectionOptions::Users;

Result<UniqueFd> mount_detached(int fd, const std::string& name, Users users) {
  ASSIGN_OR_RETURN(FsContext context, FsContext::open("fuse"));
  RETURN_IF_ERROR(context.set_string("source", "pagein:" + name.substr(0, 200)));
  RETURN_IF_ERROR(context.set_string("subtype", "pagein"));
  RETURN_IF_ERROR(context.set_string("fd", std::to_string(fd)));
  RETURN_IF_ERROR(context.set_string("rootmode", "40000"));
  RETURN_IF_ERROR(context.set_string("user_id", std::to_string(::geteuid())));
  RETURN_IF_ERROR(context.set_string("group_id", std::to_string(::getegid())));
  RETURN_IF_ERROR(context.set_flag("ro"));
  if (users == Users::everyone) {
    RETURN_IF_ERROR(context.set_flag("allow_other"));
    RETURN_IF_ERROR(context.set_flag("default_permissions"));
    return context.create(MOUNT_ATTR_RDONLY);
  }
  return context.create(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                        MOUNT_ATTR_NOEXEC);
}

// The device number's minor is the connection's number. The attributes are
// cached ones: our server is not asked.
Result<uint32_t> connection_number(int mount_fd) {
  struct statx st;
  if (::statx(mount_fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &st) != 0) {
    return errno_error(errno, "find a FUSE connection's number");
  }
  return st.stx_dev_minor;
}

}  // namespace

bool FuseSessionState::can_resend() const { return (init_flags & kFuseHasResend) != 0; }

Result<std::unique_ptr<FuseConnection>> FuseConnection::mount(FuseServer& server,
                                                              FuseConnectionOptions options,
                                                              std::chrono::milliseconds timeout) {
  RETURN_IF_ERROR(check_files(options));
  ASSIGN_OR_RETURN(UniqueFd device, open_file("/dev/fuse", O_RDWR | O_NONBLOCK));
  const int fd = device.get();
  const std::string name = options.name;
  const Users users = options.users;
  const std::shared_ptr<FusePoller> poller = server.poller();
  const uint64_t id = poller->next_id();
  auto session = std::make_shared<FuseSession>(std::move(device), std::move(options),
                                               [poller, id] { poller->rearm(id); });
  std::unique_ptr<FuseConnection> connection(new FuseConnection(poller, session, id));
  // Mount first: an unmounted descriptor polls as an error.
  ASSIGN_OR_RETURN(connection->mount_, mount_detached(fd, name, users));
  RETURN_IF_ERROR(poller->add(id, session));
  RETURN_IF_ERROR(session->wait_ready(timeout));
  ASSIGN_OR_RETURN(const uint32_t number, connection_number(connection->mount_.get()));
  session->set_connection(number);
  return connection;
}

Result<std::unique_ptr<FuseConnection>> FuseConnection::adopt(FuseServer& server, UniqueFd fd,
                                                              const FuseSessionState& state,
                                                              FuseConnectionOptions options) {
  RETURN_IF_ERROR(check_files(options));
  RETURN_IF_ERROR(set_nonblocking(fd.get()));
  const std::shared_ptr<FusePoller> poller = server.poller();
  const uint64_t id = poller->next_id();
  auto session = std::make_shared<FuseSession>(std::move(fd), std::move(options),
                                               [poller, id] { poller->rearm(id); });
  RETURN_IF_ERROR(session->resume_from(state));
  std::unique_ptr<FuseConnection> connection(new FuseConnection(poller, session, id));
  RETURN_IF_ERROR(poller->add(id, session));
  return connection;
}

FuseConnection::FuseConnection(std::shared_ptr<FusePoller> poller,
                               std::shared_ptr<FuseSession> session, uint64_t id)
    : poller_(std::move(poller)), session_(std::move(session)), id_(id) {}

FuseConnection::~FuseConnection() {
  if (!to_the_end_.load()) release();
}

void FuseConnection::serve_to_the_end() { to_the_end_.store(true); }

UniqueFd FuseConnection::take_mount() { return std::move(mount_); }
int FuseConnection::device_fd() const { return session_->fd(); }
FuseSessionState FuseConnection::state() const { return session_->state(); }
FuseStats FuseConnection::stats() const { return session_->stats(); }
bool FuseConnection::ended() const { return session_->ended(); }

Status FuseConnection::wait_ended(std::chrono::milliseconds timeout) const {
  return session_->wait_ended(timeout);
}

Status FuseConnection::abort() {
  // A private mount of fusectl: the system's need not be there.
  ASSIGN_OR_RETURN(FsContext context, FsContext::open("fusectl"));
  ASSIGN_OR_RETURN(UniqueFd control, context.create(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
  const std::string path = std::to_string(session_->state().connection) + "/abort";
  UniqueFd file(::openat(control.get(), path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file) {
    if (errno == ENOENT) return {};  // ended already
    return errno_error(errno, "open fusectl " + path);
  }
  return write_full(file.get(), as_bytes("1"));
}

void FuseConnection::release() { poller_->remove(id_); }

}  // namespace pagein::mount
