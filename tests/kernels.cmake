rodeo_test(test_device SOURCES test_device.c child.c LINKS rodeo_kernels)
target_compile_definitions(test_device PRIVATE RODEO_TEST_CUDA=$<BOOL:${RODEO_HAS_CUDA}>)
rodeo_test(test_profile SOURCES test_profile.c LINKS rodeo_kernels)
rodeo_test(test_conv SOURCES test_conv.c tensors.c LINKS rodeo_kernels rodeo_ref)
rodeo_test(test_dense SOURCES test_dense.c tensors.c LINKS rodeo_kernels rodeo_ref)
rodeo_test(test_ops_golden SOURCES test_ops_golden.c tensors.c golden.c LINKS rodeo_kernels lib_jansson)
rodeo_test(test_batchnorm_gradients SOURCES test_batchnorm_gradients.c LINKS rodeo_base rodeo_ref)
foreach(what batchnorm stem loss dropout augment)
  rodeo_test(test_${what} SOURCES test_${what}.c tensors.c golden.c
             LINKS rodeo_kernels rodeo_ref lib_jansson)
endforeach()

# The same on a processor without AVX-512, as in a Colab runtime: oneDNN has other kernels for it.
function(rodeo_test_avx2 name)
  add_test(NAME ${name}_avx2 COMMAND ${name})
  set_tests_properties(${name}_avx2 PROPERTIES
                       ENVIRONMENT "DNNL_MAX_CPU_ISA=AVX2;ONEDNN_MAX_CPU_ISA=AVX2")
endfunction()
rodeo_test_avx2(test_conv)
rodeo_test_avx2(test_dense)

# The real cuDNN, which needs no GPU for this; but later ones (9.28) want to load a driver, for which
# the toolkit's stand-in will do.
if(RODEO_HAS_CUDA)
  rodeo_test(test_conv_engines SOURCES test_conv_engines.c LINKS rodeo_kernels)
  if(EXISTS ${CUDAToolkit_LIBRARY_DIR}/stubs/libcuda.so)
    set(driver_folder ${CMAKE_BINARY_DIR}/tests/no-driver)
    file(MAKE_DIRECTORY ${driver_folder})
    file(CREATE_LINK ${CUDAToolkit_LIBRARY_DIR}/stubs/libcuda.so ${driver_folder}/libcuda.so.1 SYMBOLIC)
    set_tests_properties(test_conv_engines PROPERTIES
                         ENVIRONMENT_MODIFICATION LD_LIBRARY_PATH=path_list_append:${driver_folder})
  endif()
endif()

# Every operator against the reference: here on the CPU; on a GPU under the label gpu, and on the
# emulator in emulator.cmake.
rodeo_test(test_backend_ops
           SOURCES device_tensors.c test_backend_ops.c test_backend_ops_products.c
                   test_backend_ops_own_conv.c
                   test_backend_ops_norm.c test_backend_ops_statistics.c
                   test_backend_ops_stem.c test_backend_ops_rows.c
                   test_backend_ops_losses.c test_backend_ops_sgd.c test_backend_ops_augment.c
           LINKS rodeo_kernels rodeo_ref)
target_compile_definitions(test_backend_ops PRIVATE RODEO_TEST_HOPPER=$<BOOL:${RODEO_HAS_HOPPER}>)
rodeo_test_avx2(test_backend_ops)
add_test(NAME test_backend_ops_gpu
         COMMAND test_backend_ops --device cuda --rounds 30 --skip_without_gpu)
set_tests_properties(test_backend_ops_gpu PROPERTIES LABELS gpu SKIP_RETURN_CODE 77 TIMEOUT 900)
