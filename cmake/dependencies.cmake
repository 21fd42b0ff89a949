# Libraries from the system, or from the packages that scripts/bootstrap --local has unpacked. Each
# missing one is named together with the script that installs it.
set(unpacked ${PROJECT_SOURCE_DIR}/.deps)
if(EXISTS ${unpacked}/packages)
  list(PREPEND CMAKE_PREFIX_PATH ${unpacked} ${unpacked}/files/usr) # programs are started from bin/
  # Not the run path that is the default: this one serves the libraries' own libraries, too.
  add_link_options(LINKER:--disable-new-dtags
                   LINKER:-rpath,${unpacked}/files/usr/lib/${CMAKE_LIBRARY_ARCHITECTURE})
endif()
find_package(Threads REQUIRED)
find_package(OpenMP COMPONENTS C)
find_package(PkgConfig)
if(NOT PkgConfig_FOUND OR NOT OpenMP_C_FOUND)
  message(FATAL_ERROR "pkg-config or OpenMP is missing: run scripts/bootstrap first")
endif()

function(rodeo_find_package target module package)
  pkg_check_modules(${target} QUIET IMPORTED_TARGET ${module})
  if(NOT ${target}_FOUND)
    message(FATAL_ERROR "${module} was not found (Debian package ${package}): run scripts/bootstrap first")
  endif()
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  target_link_libraries(${target} INTERFACE PkgConfig::${target})
endfunction()

rodeo_find_package(lib_archive libarchive libarchive-dev)
rodeo_find_package(lib_cairo cairo libcairo2-dev)
rodeo_find_package(lib_cmocka cmocka libcmocka-dev)
rodeo_find_package(lib_cyaml libcyaml libcyaml-dev)
rodeo_find_package(lib_deflate libdeflate libdeflate-dev)
rodeo_find_package(lib_isal libisal libisal-dev)
rodeo_find_package(lib_jansson jansson libjansson-dev)
rodeo_find_package(lib_png libpng libpng-dev)
rodeo_find_package(lib_protobuf_c libprotobuf-c libprotobuf-c-dev)
rodeo_find_package(lib_turbojpeg libturbojpeg libturbojpeg0-dev)
rodeo_find_package(lib_xxhash libxxhash libxxhash-dev)
rodeo_find_package(lib_zip libzip libzip-dev)

# oneDNN comes without a pkg-config file.
find_library(DNNL_LIBRARY dnnl)
find_path(DNNL_INCLUDE_DIR oneapi/dnnl/dnnl.h)
if(NOT DNNL_LIBRARY OR NOT DNNL_INCLUDE_DIR)
  message(FATAL_ERROR "oneDNN was not found (Debian package libdnnl-dev): run scripts/bootstrap first")
endif()
add_library(lib_dnnl INTERFACE IMPORTED GLOBAL)
target_include_directories(lib_dnnl SYSTEM INTERFACE ${DNNL_INCLUDE_DIR})
target_link_libraries(lib_dnnl INTERFACE ${DNNL_LIBRARY})

find_program(PROTOC_C protoc-c)
if(NOT PROTOC_C)
  message(FATAL_ERROR "protoc-c was not found (Debian package protobuf-c-compiler): run scripts/bootstrap first")
endif()
