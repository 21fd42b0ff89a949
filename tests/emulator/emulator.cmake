# An emulation of the CUDA runtime, cuDNN and cuBLAS on the CPU, and rodeo_emulated_library(), which
# builds CUDA sources against it. To be included where the targets are to be visible.
include_guard(GLOBAL)
enable_language(CXX)
find_package(Boost COMPONENTS context)
if(NOT Boost_FOUND)
  message(FATAL_ERROR "Boost.Context was not found (Debian package libboost-context-dev): run scripts/bootstrap first")
endif()

# What rodeo_flags has, as far as it is not for C alone.
add_library(emulator_flags INTERFACE)
target_compile_features(emulator_flags INTERFACE cxx_std_17)
target_compile_options(emulator_flags INTERFACE -Wall -Wextra -Werror -Wshadow -fno-math-errno
                                                -ffp-contract=off)
if(RODEO_SANITIZE)
  target_compile_options(emulator_flags INTERFACE -fsanitize=address,undefined
                                                  -fno-omit-frame-pointer -fno-sanitize-recover=all)
endif()

set(emulator_folder ${CMAKE_CURRENT_LIST_DIR})
file(GLOB emulator_sources CONFIGURE_DEPENDS ${emulator_folder}/*.cpp)
add_library(cuda_emulator STATIC ${emulator_sources})
target_include_directories(cuda_emulator PUBLIC ${emulator_folder}/include PRIVATE ${emulator_folder})
target_link_libraries(cuda_emulator PUBLIC Boost::context Threads::Threads PRIVATE emulator_flags)
if(RODEO_SANITIZE)
  target_link_options(cuda_emulator PUBLIC -fsanitize=address,undefined)
endif()
# Convolutions are what takes time; what they access is checked before, so they need no sanitizers.
set_source_files_properties(${emulator_folder}/products.cpp PROPERTIES
  COMPILE_OPTIONS "-O3;-fno-sanitize=all")

# Kernels tell races.cpp of every access, as g++ instruments them; not together with AddressSanitizer.
set(emulator_watch "")
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND NOT RODEO_SANITIZE)
  set(emulator_watch -fsanitize=thread)
endif()

# rodeo_emulated_library(NAME SOURCES ... LINKS ...): a static library of CUDA sources; .cu is compiled
# as C++17, .c as C. Sources of other folders may be compiled as CUDA there; here they are C++.
function(rodeo_emulated_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  foreach(source ${ARG_SOURCES})
    if(source MATCHES "\\.cu$")
      set_source_files_properties(${source} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-x;c++;${emulator_watch}")
    endif()
  endforeach()
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} BEFORE PUBLIC ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/include
                                                   ${PROJECT_SOURCE_DIR})
  target_compile_definitions(${name} PUBLIC _GNU_SOURCE _FILE_OFFSET_BITS=64
                                            RODEO_VERSION="${PROJECT_VERSION}")
  target_compile_options(${name} PRIVATE -Wno-unknown-pragmas)
  target_link_libraries(${name} PUBLIC cuda_emulator ${ARG_LINKS} PRIVATE emulator_flags)
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
endfunction()
