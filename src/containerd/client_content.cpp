// Client's calls of containerd's content service.
#include "containerd/client.h"
#include "containerd/connection.h"
#include "containerd/services/content.grpc.pb.h"

namespace pagein::containerd {

namespace {

namespace content = ::containerd::services::content::v1;
using google::protobuf::Empty;

constexpr size_t kPiece = 1 << 20;  // bytes of one write; containerd takes up to 16 MiB

std::unique_ptr<content::Content::Stub> stub_of(const std::shared_ptr<grpc::Channel>& channel) {
  return content::Content::NewStub(channel);
}

}  // namespace

Result<ContentInfo> Client::content_info(const oci::Digest& digest) {
  Call call(*this);
  content::InfoRequest request;
  request.set_digest(digest.str());
  content::InfoResponse response;
  RETURN_IF_ERROR(
      call.status(stub_of(connection_->channel)->Info(call.context(), request, &response),
                  "looking up content " + digest.str()));
  const content::Info& info = response.info();
  return ContentInfo{digest, static_cast<uint64_t>(info.size()),
                     Labels(info.labels().begin(), info.labels().end())};
}

Result<std::string> Client::read_content(const oci::Digest& digest, uint64_t cap) {
  Call call(*this);
  content::ReadContentRequest request;
  request.set_digest(digest.str());
  const auto reader = stub_of(connection_->channel)->Read(call.context(), request);
  std::string bytes;
  content::ReadContentResponse response;
  while (reader->Read(&response)) {
    if (response.data().size() > cap - bytes.size()) {
      return Error(Code::exhausted, "content " + digest.str() + " is larger than expected");
    }
    bytes += response.data();
  }
  RETURN_IF_ERROR(call.status(reader->Finish(), "reading content " + digest.str()));
  return bytes;
}

Status Client::label_content(const oci::Digest& digest, const Labels& labels) {
  Call call(*this);
  content::UpdateRequest request;
  request.mutable_info()->set_digest(digest.str());
  for (const auto& [key, value] : labels) {
    (*request.mutable_info()->mutable_labels())[key] = value;
    request.mutable_update_mask()->add_paths("labels." + key);
  }
  content::UpdateResponse response;
  return call.status(stub_of(connection_->channel)->Update(call.context(), request, &response),
                     "labelling content " + digest.str());
}

Status Client::delete_content(const oci::Digest& digest) {
  Call call(*this);
  content::DeleteContentRequest request;
  request.set_digest(digest.str());
  Empty response;
  return call.status(stub_of(connection_->channel)->Delete(call.context(), request, &response),
                     "deleting content " + digest.str());
}

Status Client::abort_upload(const std::string& ref) {
  Call call(*this);
  content::AbortRequest request;
  request.set_ref(ref);
  Empty response;
  return call.status(stub_of(connection_->channel)->Abort(call.context(), request, &response),
                     "aborting upload " + ref);
}

// One Write stream: a request and its answer at a time (containerd
// services/content/contentserver).
struct Client::Upload {
  using Stream =
      grpc::ClientReaderWriter<content::WriteContentRequest, content::WriteContentResponse>;

  Call call;
  std::unique_ptr<Stream> stream;
  const UploadRequest& request;
  content::WriteContentResponse response;
  uint64_t offset = 0;

  Upload(const Client& client, const UploadRequest& upload)
      : call(client, Call::Deadline::none),
        stream(stub_of(client.connection_->channel)->Write(call.context())),
        request(upload) {}

  // False: the stream has ended; finish() says why.
  bool send(const content::WriteContentRequest& message) {
    return stream->Write(message) && stream->Read(&response);
  }
  Status finish() {
    stream->WritesDone();
    // containerd says its last word twice; unread, it would hold up Finish.
    while (stream->Read(&response)) {
    }
    return call.status(stream->Finish(), "uploading " + request.digest.str());
  }
  void cancel() {
    call.context()->TryCancel();
    (void)stream->Finish();
  }

  content::WriteContentRequest message(content::WriteAction action) const {
    content::WriteContentRequest message;
    message.set_action(action);
    message.set_ref(request.ref);
    message.set_offset(static_cast<int64_t>(offset));
    return message;
  }

  // Locks the upload and asks how much of it is there.
  bool negotiate() {
    content::WriteContentRequest first = message(content::STAT);
    first.set_total(static_cast<int64_t>(request.size));
    first.set_expected(request.digest.str());
    if (!send(first)) return false;
    offset = static_cast<uint64_t>(response.offset());
    if (offset > request.size) offset = 0;  // containerd truncates at the next write
    return true;
  }

  // ok(false): the stream has ended.
  Result<bool> copy(ByteStream& blob) {
    content::WriteContentRequest piece = message(content::WRITE);
    Bytes buffer(kPiece);
    for (;;) {
      size_t filled = 0;
      while (filled < buffer.size()) {
        ASSIGN_OR_RETURN(const size_t count, blob.read(std::span(buffer).subspan(filled)));
        if (count == 0) break;
        filled += count;
      }
      if (filled == 0) return true;
      if (filled > request.size - offset) {
        return Error(Code::corrupt_input, "blob " + request.digest.str() + " is longer than its " +
                                              std::to_string(request.size) + " bytes");
      }
      piece.set_offset(static_cast<int64_t>(offset));
      piece.set_data(buffer.data(), filled);
      if (!send(piece)) return false;
      offset += filled;
      if (request.on_bytes) request.on_bytes(filled);
    }
  }

  bool commit() {
    content::WriteContentRequest last = message(content::COMMIT);
    last.set_total(static_cast<int64_t>(request.size));
    last.set_expected(request.digest.str());
    last.mutable_labels()->insert(request.labels.begin(), request.labels.end());
    return send(last);
  }

  Result<Uploaded> run(const OpenBlob& open) {
    if (!negotiate()) {
      // "ref R locked for T: unavailable" (containerd content/local/locks.go).
      Result<Uploaded> why = ended();
      const bool locked = !why.ok() && why.error().code == Code::unavailable &&
                          why.error().message.find(" locked for ") != std::string::npos;
      return locked ? Uploaded::by_another : why;
    }
    if (offset < request.size) {
      auto blob = open(offset);
      const Result<bool> copied = blob.ok() ? copy(**blob) : Result<bool>(blob.error());
      if (!copied.ok()) {
        cancel();
        return copied.error();
      }
      if (!*copied) return ended();
    }
    if (!commit()) return ended();
    RETURN_IF_ERROR(finish());
    return Uploaded::now;
  }

  Result<Uploaded> ended() {
    const Status status = finish();
    if (status.ok()) return Error(Code::internal, "containerd ended an upload without a word");
    if (status.error().code == Code::already_exists) return Uploaded::was_there;
    return status.error();
  }
};

Result<Uploaded> Client::upload(const UploadRequest& request, const OpenBlob& open) {
  // Twice where the first went on from an earlier try that may have been bad.
  for (int attempt = 0;; ++attempt) {
    uint64_t resumed_at = 0;
    auto noting = [&](uint64_t offset) {
      resumed_at = offset;
      return open(offset);
    };
    Result<Uploaded> uploaded = Upload(*this, request).run(noting);
    if (uploaded.ok() || uploaded.error().code != Code::failed_precondition) return uploaded;
    // Size or digest differ at the commit.
    RETURN_IF_ERROR(with_stop({})->abort_upload(request.ref));
    if (resumed_at == 0 || attempt > 0) {
      return Error(Code::corrupt_input, uploaded.error().message);
    }
  }
}

}  // namespace pagein::containerd
