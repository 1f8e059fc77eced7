// Client's calls of containerd's images service.
#include "containerd/client.h"
#include "containerd/connection.h"
#include "containerd/services/images.grpc.pb.h"

namespace pagein::containerd {

namespace {

namespace images = ::containerd::services::images::v1;
using google::protobuf::Empty;

void put(const Image& image, images::Image* out) {
  out->set_name(image.name);
  out->mutable_labels()->insert(image.labels.begin(), image.labels.end());
  ::containerd::types::Descriptor* target = out->mutable_target();
  target->set_media_type(image.target.media_type);
  target->set_digest(image.target.digest.str());
  target->set_size(static_cast<int64_t>(image.target.size));
  target->mutable_annotations()->insert(image.target.annotations.begin(),
                                        image.target.annotations.end());
}

}  // namespace

Result<Image> Client::get_image(const std::string& name) {
  Call call(*this);
  images::GetImageRequest request;
  request.set_name(name);
  images::GetImageResponse response;
  RETURN_IF_ERROR(call.status(
      images::Images::NewStub(connection_->channel)->Get(call.context(), request, &response),
      "looking up image " + name));
  const ::containerd::types::Descriptor& target = response.image().target();
  Image image;
  image.name = name;
  image.labels = Labels(response.image().labels().begin(), response.image().labels().end());
  image.target.media_type = target.media_type();
  ASSIGN_OR_RETURN(image.target.digest, oci::Digest::parse(target.digest()));
  image.target.size = static_cast<uint64_t>(target.size());
  image.target.annotations =
      oci::Annotations(target.annotations().begin(), target.annotations().end());
  return image;
}

Status Client::put_image(const Image& image) {
  const auto stub = images::Images::NewStub(connection_->channel);
  {
    Call call(*this);
    images::CreateImageRequest request;
    put(image, request.mutable_image());
    images::CreateImageResponse response;
    const Status created = call.status(stub->Create(call.context(), request, &response),
                                       "creating image " + image.name);
    if (created.ok() || created.error().code != Code::already_exists) return created;
  }
  Call call(*this);
  images::UpdateImageRequest request;
  put(image, request.mutable_image());
  request.mutable_update_mask()->add_paths("target");
  for (const auto& [key, value] : image.labels) {
    request.mutable_update_mask()->add_paths("labels." + key);
  }
  images::UpdateImageResponse response;
  return call.status(stub->Update(call.context(), request, &response),
                     "updating image " + image.name);
}

Status Client::delete_image(const std::string& name) {
  Call call(*this);
  images::DeleteImageRequest request;
  request.set_name(name);
  request.set_sync(true);
  Empty response;
  return call.status(
      images::Images::NewStub(connection_->channel)->Delete(call.context(), request, &response),
      "deleting image " + name);
}

}  // namespace pagein::containerd
