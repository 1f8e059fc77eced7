# Build rules shared by every folder.
#
#   pagein_library(NAME DEPS a b LIBS x::y)   src/NAME -> library pagein_NAME
#   pagein_app(NAME DEPS a b)                 apps/NAME/main.cpp -> bin/NAME
#
# In a library's folder, FOO_test.cpp files make one gtest binary NAME_test,
# every FOO_fuzz.cpp is a libFuzzer target (preset "fuzz"; elsewhere a small
# driver replays the seeds in FOO_fuzz.seeds/ as a ctest), and every
# FOO_bench.cpp a benchmark binary that ctest does not run.

set(PAGEIN_SANITIZE "" CACHE STRING "What -fsanitize= gets: address,undefined or thread")
option(PAGEIN_FUZZ "Build libFuzzer targets (needs clang)" OFF)
option(PAGEIN_TESTS "Build the unit tests" ON)

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

add_library(pagein_options INTERFACE)
target_include_directories(pagein_options INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_compile_options(pagein_options INTERFACE
  -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wno-missing-field-initializers
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>)
target_compile_definitions(pagein_options INTERFACE
  _FILE_OFFSET_BITS=64 PAGEIN_VERSION="${PROJECT_VERSION}")
if(PAGEIN_SANITIZE)
  target_compile_options(pagein_options INTERFACE
    -fsanitize=${PAGEIN_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(pagein_options INTERFACE -fsanitize=${PAGEIN_SANITIZE})
endif()

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
if(PAGEIN_TESTS)
  find_package(GTest REQUIRED)
  include(GoogleTest)
endif()

function(pagein_library NAME)
  cmake_parse_arguments(ARG "" "" "DEPS;LIBS;PRIVATE_LIBS;TEST_LIBS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  set(tests ${sources})
  set(fuzzers ${sources})
  set(benches ${sources})
  list(FILTER sources EXCLUDE REGEX "_(test|fuzz|bench)\\.cpp$")
  list(FILTER tests INCLUDE REGEX "_test\\.cpp$")
  list(FILTER fuzzers INCLUDE REGEX "_fuzz\\.cpp$")
  list(FILTER benches INCLUDE REGEX "_bench\\.cpp$")

  foreach(dep IN LISTS ARG_DEPS)
    list(FIND PAGEIN_FLOORS ${dep} dep_floor)
    list(FIND PAGEIN_FLOORS ${NAME} own_floor)
    if(dep_floor LESS 0 OR NOT dep_floor LESS own_floor)
      message(FATAL_ERROR "src/${NAME} may not depend on src/${dep}: not a lower floor")
    endif()
  endforeach()
  list(TRANSFORM ARG_DEPS PREPEND pagein_)

  add_library(pagein_${NAME} STATIC ${sources})
  target_link_libraries(pagein_${NAME}
    PUBLIC pagein_options ${ARG_DEPS} ${ARG_LIBS} Threads::Threads
    PRIVATE ${ARG_PRIVATE_LIBS})

  if(PAGEIN_TESTS AND tests)
    add_executable(${NAME}_test ${tests})
    target_link_libraries(${NAME}_test PRIVATE pagein_${NAME} ${ARG_TEST_LIBS}
      GTest::gmock GTest::gtest_main)
    target_compile_definitions(${NAME}_test PRIVATE
      PAGEIN_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
    set_target_properties(${NAME}_test PROPERTIES
      RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    gtest_discover_tests(${NAME}_test TEST_PREFIX "${NAME}."
      PROPERTIES LABELS unit TIMEOUT 300 DISCOVERY_TIMEOUT 60)
  endif()

  foreach(fuzzer IN LISTS fuzzers)
    get_filename_component(target ${fuzzer} NAME_WE)
    set(target ${NAME}_${target})
    set(seeds ${fuzzer})
    string(REGEX REPLACE "\\.cpp$" ".seeds" seeds ${seeds})
    if(PAGEIN_FUZZ)
      add_executable(${target} ${fuzzer})
      target_link_options(${target} PRIVATE -fsanitize=fuzzer)
    elseif(PAGEIN_TESTS)
      add_executable(${target} ${fuzzer} ${CMAKE_SOURCE_DIR}/cmake/fuzz_replay.cpp)
      add_test(NAME ${NAME}.${target}_seeds COMMAND ${target} ${seeds})
      set_tests_properties(${NAME}.${target}_seeds PROPERTIES LABELS unit TIMEOUT 300)
    else()
      continue()
    endif()
    target_link_libraries(${target} PRIVATE pagein_${NAME} ${ARG_TEST_LIBS})
    set_target_properties(${target} PROPERTIES
      RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  endforeach()

  foreach(bench IN LISTS benches)
    get_filename_component(target ${bench} NAME_WE)
    add_executable(${NAME}_${target} ${bench})
    target_link_libraries(${NAME}_${target} PRIVATE pagein_${NAME} ${ARG_TEST_LIBS})
    set_target_properties(${NAME}_${target} PROPERTIES
      RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bench)
  endforeach()
endfunction()

function(pagein_app NAME)
  cmake_parse_arguments(ARG "" "" "DEPS;LIBS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${NAME}/*.cpp)
  add_executable(${NAME} ${sources})
  list(TRANSFORM ARG_DEPS PREPEND pagein_)
  target_link_libraries(${NAME} PRIVATE pagein_options ${ARG_DEPS} ${ARG_LIBS})
  target_include_directories(${NAME} PRIVATE ${CMAKE_SOURCE_DIR})
  install(TARGETS ${NAME} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endfunction()

# pagein_grpc(TARGET proto...): C++ from protos under proto/, into its own
# small library, so that generated code is compiled once.
function(pagein_grpc TARGET)
  find_program(PROTOC protoc REQUIRED)
  find_program(GRPC_PLUGIN grpc_cpp_plugin REQUIRED)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/gen)
  file(MAKE_DIRECTORY ${out})
  set(sources)
  foreach(proto IN LISTS ARGN)
    string(REGEX REPLACE "\\.proto$" "" stem ${proto})
    set(generated ${out}/${stem}.pb.cc ${out}/${stem}.grpc.pb.cc)
    add_custom_command(OUTPUT ${generated} ${out}/${stem}.pb.h ${out}/${stem}.grpc.pb.h
      COMMAND ${PROTOC} -I ${CMAKE_SOURCE_DIR}/proto --cpp_out=${out} --grpc_out=${out}
              --plugin=protoc-gen-grpc=${GRPC_PLUGIN} ${CMAKE_SOURCE_DIR}/proto/${proto}
      DEPENDS ${CMAKE_SOURCE_DIR}/proto/${proto})
    list(APPEND sources ${generated})
  endforeach()
  pkg_check_modules(GRPCPP REQUIRED IMPORTED_TARGET grpc++ protobuf)
  add_library(${TARGET} STATIC ${sources})
  target_include_directories(${TARGET} SYSTEM PUBLIC ${out})
  target_link_libraries(${TARGET} PUBLIC PkgConfig::GRPCPP Threads::Threads)
endfunction()
