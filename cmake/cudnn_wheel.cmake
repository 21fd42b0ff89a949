# rodeo_find_cudnn_wheel(ROOT MAJOR): the folder of cuDNN's PyPI wheel for CUDA MAJOR, which PyTorch brings
# along, of the python3 in PATH; empty: it has none.
function(rodeo_find_cudnn_wheel root major)
  set(program "import importlib.metadata, sys
for file in importlib.metadata.files(sys.argv[1]):
    if file.name == 'cudnn_version.h':
        print(file.locate().resolve().parent.parent)")
  execute_process(COMMAND python3 -c "${program}" nvidia-cudnn-cu${major}
                  RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_QUIET)
  if(status EQUAL 0)
    string(STRIP "${output}" output)
    set(${root} "${output}" PARENT_SCOPE)
  else()
    set(${root} "" PARENT_SCOPE)
  endif()
endfunction()
