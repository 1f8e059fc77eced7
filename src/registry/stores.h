// The implementations behind open_source() and open_destination().
#pragma once

#include <filesystem>
#include <memory>

#include "registry/image_store.h"

namespace pagein::registry {

std::shared_ptr<ImageSource> make_registry_source(std::shared_ptr<Session> session,
                                                  const oci::Reference& reference);
std::shared_ptr<ImageDestination> make_registry_destination(std::shared_ptr<Session> session,
                                                            const oci::Reference& reference);

// not_found if DIR is no layout.
Result<std::shared_ptr<ImageSource>> open_layout_source(const std::filesystem::path& dir,
                                                        const std::string& name);
// Makes the layout where there is none.
Result<std::shared_ptr<ImageDestination>> open_layout_destination(const std::filesystem::path& dir,
                                                                  const std::string& tag);

Result<std::shared_ptr<ImageSource>> open_oci_archive(const std::filesystem::path& file,
                                                      const std::string& name);
Result<std::shared_ptr<ImageSource>> open_docker_archive(const std::filesystem::path& file,
                                                         const std::string& name);

}  // namespace pagein::registry
