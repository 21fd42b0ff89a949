# The CUDA backend: whether it is built, with which toolkit and cuDNN, for which GPUs.
#
#   RODEO_CUDA                AUTO: where nvcc, cuBLAS and cuDNN are found; ON: stop where one is
#                             missing; OFF: leave it out, and need no C++ compiler; EMULATED: against
#                             the emulation in tests/emulator/, to run its tests without a GPU
#   RODEO_CUDA_ARCHITECTURES  compute capabilities to compile for, as CMake lists them (75;80-real).
#                             Empty: this machine's GPU, else all that the toolkit knows of
#                             RODEO_CUDA_ALL, and PTX for later ones
#   CUDNN_ROOT                where cuDNN's include/ and lib/ are, when neither in a usual place nor in
#                             the PyPI wheel (nvidia-cudnn-cu13, -cu12) of the python3 in PATH
#
# Sets RODEO_HAS_CUDA, and with it the target lib_cuda and rodeo_cuda_options(); and RODEO_HAS_HOPPER: whether
# kernels that run on compute capability 9.0 alone are compiled, too (sm_90a).
include(${CMAKE_CURRENT_LIST_DIR}/cuda_architectures.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/cudnn_wheel.cmake)
set(RODEO_CUDA AUTO CACHE STRING "Build the CUDA backend: AUTO, ON, OFF or EMULATED")
set_property(CACHE RODEO_CUDA PROPERTY STRINGS AUTO ON OFF EMULATED)
set(RODEO_CUDA_ARCHITECTURES "" CACHE STRING "Compute capabilities to compile for; empty: chosen")
set(RODEO_CUDA_ALL 60 70 75 80 86 89 90)
set(RODEO_HAS_CUDA FALSE)
set(RODEO_HAS_HOPPER FALSE)

# rodeo_find_nvcc(MISSING): makes nvcc the compiler of CMake's language CUDA, or says why not.
function(rodeo_find_nvcc missing)
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    find_program(RODEO_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
    mark_as_advanced(RODEO_NVCC)
    if(NOT RODEO_NVCC)
      set(${missing} "the CUDA compiler, nvcc (looked in PATH and /usr/local/cuda/bin; name it with \
CMAKE_CUDA_COMPILER)" PARENT_SCOPE)
      return()
    endif()
    set(ENV{CUDACXX} ${RODEO_NVCC})
  endif()
  if(NOT CMAKE_CUDA_COMPILER)
    unset(CMAKE_CUDA_COMPILER CACHE) # what an earlier run did not find may be there by now
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    set(${missing} "a CUDA compiler that works: $ENV{CUDACXX} cannot build a small program (it \
needs a C++ compiler that this toolkit supports; ${CMAKE_BINARY_DIR}/CMakeFiles has its output)"
        PARENT_SCOPE)
  endif()
endfunction()

# rodeo_find_cudnn(MISSING): sets CUDNN_INCLUDE_DIR, CUDNN_LIBRARY, and RODEO_CUDNN_VERSION.
function(rodeo_find_cudnn missing)
  set(roots ${CUDNN_ROOT} $ENV{CUDNN_ROOT})
  find_path(CUDNN_INCLUDE_DIR cudnn_version.h
            HINTS ${roots} ${CUDAToolkit_INCLUDE_DIRS} PATH_SUFFIXES include)
  if(NOT CUDNN_INCLUDE_DIR)
    rodeo_find_cudnn_wheel(roots ${CUDAToolkit_VERSION_MAJOR})
    find_path(CUDNN_INCLUDE_DIR cudnn_version.h HINTS ${roots} PATH_SUFFIXES include)
  endif()
  find_library(CUDNN_LIBRARY NAMES cudnn libcudnn.so.9 NAMES_PER_DIR
               HINTS ${roots} ${CUDAToolkit_LIBRARY_DIR} PATH_SUFFIXES lib lib64)
  mark_as_advanced(CUDNN_INCLUDE_DIR CUDNN_LIBRARY)
  if(NOT CUDNN_INCLUDE_DIR OR NOT CUDNN_LIBRARY)
    set(${missing} "cuDNN, library and headers (Debian package libcudnn9-dev-cuda-\
${CUDAToolkit_VERSION_MAJOR} from NVIDIA, or nvidia-cudnn-cu${CUDAToolkit_VERSION_MAJOR} from PyPI for the python3 in \
PATH; or name its folder with CUDNN_ROOT)" PARENT_SCOPE)
    return()
  endif()
  file(STRINGS ${CUDNN_INCLUDE_DIR}/cudnn_version.h lines
       REGEX "^#define CUDNN_(MAJOR|MINOR|PATCHLEVEL) +[0-9]+")
  list(TRANSFORM lines REPLACE "[^0-9]+" "")
  list(JOIN lines "." version)
  set(RODEO_CUDNN_VERSION ${version} PARENT_SCOPE)
  if(version VERSION_LESS 9)
    set(${missing} "cuDNN 9 (${CUDNN_INCLUDE_DIR} has ${version})" PARENT_SCOPE)
  endif()
endfunction()

# rodeo_this_gpu(GPUS): the compute capabilities of this machine's GPUs as 75, 90, ...; empty: none.
function(rodeo_this_gpu gpus)
  set(found "")
  get_filename_component(folder ${CMAKE_CUDA_COMPILER} DIRECTORY)
  foreach(command "${folder}/__nvcc_device_query" "nvidia-smi;--query-gpu=compute_cap;--format=csv,noheader")
    if(found STREQUAL "")
      execute_process(COMMAND ${command} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_QUIET)
      if(status EQUAL 0)
        string(REPLACE "." "" output "${output}")
        string(REGEX MATCHALL "[0-9]+" found "${output}")
      endif()
    endif()
  endforeach()
  list(REMOVE_DUPLICATES found)
  set(${gpus} "${found}" PARENT_SCOPE)
endfunction()

# rodeo_choose_architectures(MISSING): sets RODEO_CUDA_CHOSEN, and RODEO_CUDA_SHOWN for people.
function(rodeo_choose_architectures missing)
  if(RODEO_CUDA_ARCHITECTURES)
    set(RODEO_CUDA_CHOSEN "${RODEO_CUDA_ARCHITECTURES}" PARENT_SCOPE)
    set(RODEO_CUDA_SHOWN "as asked" PARENT_SCOPE)
    return()
  endif()
  execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch OUTPUT_VARIABLE output)
  string(REGEX MATCHALL "[0-9]+" known "${output}")
  list(SORT known COMPARE NATURAL)
  rodeo_this_gpu(gpus)
  if(gpus)
    set(shown "this machine's GPU")
    rodeo_architectures_for(chosen too_old "${gpus}" "${known}")
    if(too_old)
      list(GET known 0 oldest)
      set(${missing} "a CUDA toolkit for this machine's GPU: CUDA ${CMAKE_CUDA_COMPILER_VERSION} \
compiles for sm_${oldest} and newer, the GPU is sm_${too_old} (CUDA 12.9 is the last for sm_60 and sm_70; \
cuDNN 9.10 the last)" PARENT_SCOPE)
    endif()
  else()
    set(shown "no GPU here: all that this toolkit knows")
    rodeo_all_architectures(chosen "${RODEO_CUDA_ALL}" "${known}")
  endif()
  set(RODEO_CUDA_CHOSEN "${chosen}" PARENT_SCOPE)
  set(RODEO_CUDA_SHOWN "${shown}" PARENT_SCOPE)
endfunction()

# rodeo_choose_hopper(): sets RODEO_HAS_HOPPER: where code for 9.0 is asked for, by a toolkit that knows sm_90a.
function(rodeo_choose_hopper)
  set(asked "${RODEO_CUDA_CHOSEN}")
  if("native" IN_LIST asked)
    rodeo_this_gpu(gpus)
    list(APPEND asked ${gpus})
  endif()
  list(FILTER asked INCLUDE REGEX "^(90a?(-real)?|all|all-major)$")
  if(asked AND CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12)
    set(RODEO_HAS_HOPPER TRUE PARENT_SCOPE)
  endif()
endfunction()

if(NOT RODEO_CUDA MATCHES "^(AUTO|ON|OFF|EMULATED)$")
  message(FATAL_ERROR "RODEO_CUDA is ${RODEO_CUDA}: it takes AUTO, ON, OFF or EMULATED")
endif()
set(cuda_missing "")
if(RODEO_CUDA STREQUAL EMULATED)
  include(tests/emulator/emulator.cmake)
elseif(NOT RODEO_CUDA STREQUAL OFF)
  rodeo_find_nvcc(cuda_missing)
  if(NOT cuda_missing)
    enable_language(CUDA)
    find_package(CUDAToolkit)
    if(NOT TARGET CUDA::cublas OR NOT TARGET CUDA::cudart)
      set(cuda_missing "cuBLAS or the CUDA runtime of the toolkit of ${CMAKE_CUDA_COMPILER} \
(NVIDIA's packages libcublas-dev and cuda-cudart-dev)")
    else()
      rodeo_find_cudnn(cuda_missing)
    endif()
  endif()
  if(NOT cuda_missing)
    rodeo_choose_architectures(cuda_missing)
  endif()
  if(NOT cuda_missing)
    set(RODEO_HAS_CUDA TRUE)
    rodeo_choose_hopper()
  elseif(RODEO_CUDA STREQUAL ON)
    message(FATAL_ERROR "RODEO_CUDA is ON, but this is missing: ${cuda_missing}")
  else()
    message(STATUS "CUDA backend: left out, because this is missing: ${cuda_missing}")
  endif()
endif()

if(RODEO_HAS_CUDA)
  list(JOIN RODEO_CUDA_CHOSEN " " shown)
  message(STATUS "CUDA backend: CUDA ${CMAKE_CUDA_COMPILER_VERSION}, cuDNN ${RODEO_CUDNN_VERSION} "
                 "(${CUDNN_LIBRARY}), compiled for ${shown} (${RODEO_CUDA_SHOWN})")
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)

  # The libraries that were compiled against are also those that are loaded, whatever else
  # LD_LIBRARY_PATH names: a machine may have a second cuDNN of another version (Python's).
  add_library(lib_cuda INTERFACE)
  target_include_directories(lib_cuda SYSTEM INTERFACE ${CUDNN_INCLUDE_DIR})
  target_link_libraries(lib_cuda INTERFACE CUDA::cudart CUDA::cublas ${CUDNN_LIBRARY})
  get_filename_component(cudnn_folder ${CUDNN_LIBRARY} DIRECTORY)
  set(folders ${cudnn_folder} ${CUDAToolkit_LIBRARY_DIR})
  list(REMOVE_DUPLICATES folders)
  target_link_options(lib_cuda INTERFACE LINKER:--disable-new-dtags)
  foreach(folder ${folders})
    target_link_options(lib_cuda INTERFACE LINKER:-rpath,${folder})
  endforeach()
endif()

# What nvcc is given beside rodeo_flags' definitions: every warning is an error in device and host
# code; line numbers for compute-sanitizer and profilers, which cost nothing at run time.
function(rodeo_cuda_options target)
  set(options -Werror=all-warnings -lineinfo -Xcompiler=-Wall,-Wextra,-Werror,-Wshadow)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 13)
    list(APPEND options -Wno-deprecated-gpu-targets)
  endif()
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${options}>")
  set_target_properties(${target} PROPERTIES CUDA_ARCHITECTURES "${RODEO_CUDA_CHOSEN}")
endfunction()
